/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Prints as whom it was started and as whom it runs.  Installed setuid.
 */
#include <stdio.h>
#include <unistd.h>

int main(void)
{
	printf("real %u effective %u\n", (unsigned int)getuid(), (unsigned int)geteuid());
	return 0;
}
