"""The shared kernel: values in, answer or exception out.  No I/O, no clock, no logging."""
