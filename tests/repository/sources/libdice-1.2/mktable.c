/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * mktable SEED COUNT: write COUNT numbers of 64 bits, drawn by splitmix64
 * (Steele, Lea and Flood, "Fast splittable pseudorandom number generators").
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t draw(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: mktable SEED COUNT\n");
		return 2;
	}
	uint64_t state = strtoull(argv[1], NULL, 10);
	unsigned long count = strtoul(argv[2], NULL, 10);

	for (unsigned long i = 0; i < count; i++) {
		uint64_t number = draw(&state);
		for (int byte = 0; byte < 8; byte++)
			putchar((int)(number >> (8 * byte) & 0xff));
	}
	return fflush(stdout) != 0;
}
