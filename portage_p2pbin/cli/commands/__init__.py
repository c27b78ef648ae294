"""The commands of `p2pbin`, one module each: build the objects, call one use case, print the answer."""
