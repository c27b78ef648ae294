"""Do honest builds of real projects have equal contents digests, and do real builders make comparable builds?"""
