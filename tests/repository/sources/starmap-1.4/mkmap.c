/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * mkmap SEED STARS: draw a map of so many stars with the generator xorshift32
 * (Marsaglia, "Xorshift RNGs").  SEED is not 0.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "star.h"

static uint32_t draw(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: mkmap SEED STARS\n");
		return 2;
	}
	uint32_t state = (uint32_t)strtoul(argv[1], NULL, 10);
	unsigned long stars = strtoul(argv[2], NULL, 10);

	for (unsigned long i = 0; i < stars * STAR_NUMBERS; i++) {
		uint32_t number = draw(&state) >> 16;
		putchar((int)(number & 0xff));
		putchar((int)(number >> 8));
	}
	return fflush(stdout) != 0;
}
