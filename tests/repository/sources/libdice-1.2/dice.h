/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef DICE_H
#define DICE_H

/* Number of throws in the table. */
unsigned long dice_count(void);

/* The throw at this position of the table: 1 to sides. */
unsigned int dice_throw(unsigned long position, unsigned int sides);

#endif
