"""A hostile package file in, a contents digest out.  Reads no network, no clock and no settings."""
