/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef STAR_H
#define STAR_H

/* One entry of the map: six bytes, low byte first.  Both angles divide the circle into 65536 parts. */
enum { STAR_RIGHT_ASCENSION, STAR_DECLINATION, STAR_BRIGHTNESS, STAR_NUMBERS };

#define STAR_BYTES (2 * STAR_NUMBERS)

#endif
