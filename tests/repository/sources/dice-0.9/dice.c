/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <dice.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	unsigned long number = argc > 1 ? strtoul(argv[1], NULL, 10) : 1;
	unsigned int sides = argc > 2 ? (unsigned int)strtoul(argv[2], NULL, 10) : 6;

	if (sides == 0) {
		fprintf(stderr, "dice: a die has at least one side\n");
		return 2;
	}
	for (unsigned long i = 0; i < number; i++)
		printf("%u\n", dice_throw(i, sides));
	return 0;
}
