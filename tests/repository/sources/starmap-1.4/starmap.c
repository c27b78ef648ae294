/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <dice.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "star.h"

static unsigned int number(const unsigned char *star, int which)
{
	return star[2 * which] | (unsigned int)star[2 * which + 1] << 8;
}

int main(int argc, char **argv)
{
	unsigned char star[STAR_BYTES];
	FILE *map = fopen(MAP, "rb");

	if (map == NULL || fseek(map, 0, SEEK_END) != 0) {
		perror(MAP);
		return 1;
	}
	unsigned long stars = (unsigned long)ftell(map) / STAR_BYTES;
	unsigned long chosen = argc > 1 ? strtoul(argv[1], NULL, 10)
		: dice_throw((unsigned long)time(NULL), (unsigned int)stars) - 1;

	if (chosen >= stars) {
		fprintf(stderr, "starmap: there are %lu stars\n", stars);
		return 2;
	}
	if (fseek(map, (long)(chosen * STAR_BYTES), SEEK_SET) != 0 || fread(star, STAR_BYTES, 1, map) != 1) {
		perror(MAP);
		return 1;
	}
	printf("star %lu of %lu: %.3f h %+.3f deg, brightness %u\n", chosen, stars,
		number(star, STAR_RIGHT_ASCENSION) * 24.0 / 65536,
		number(star, STAR_DECLINATION) * 180.0 / 65536 - 90,
		number(star, STAR_BRIGHTNESS));
	return 0;
}
