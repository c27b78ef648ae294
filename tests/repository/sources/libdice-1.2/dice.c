/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdint.h>

#include "dice.h"

__asm__(
	".section .rodata\n"
	".balign 8\n"
	"dice_table:\n"
	".incbin \"table.bin\"\n"
	"dice_table_end:\n"
	".previous\n");

extern const uint64_t dice_table[] __attribute__((visibility("hidden")));
extern const uint64_t dice_table_end[] __attribute__((visibility("hidden")));

unsigned long dice_count(void)
{
	return (unsigned long)(dice_table_end - dice_table);
}

unsigned int dice_throw(unsigned long position, unsigned int sides)
{
	return (unsigned int)(dice_table[position % dice_count()] % sides) + 1;
}
