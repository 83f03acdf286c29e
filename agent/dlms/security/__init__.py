"""Who may read a meter and how what is said stays secret: keys, ciphers, invocation counters."""
