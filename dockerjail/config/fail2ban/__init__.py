"""
A user's own fail2ban directory in, unchanged; jails, filters and problems out.

`read.Fail2ban` is the door. Behind it: `files` (the only one that touches the disk) finds
the bytes, `ini` makes sections of them, `merged` puts files on top of each other,
`interpolate` and `tags` resolve `%(name)s` and `<name>`, `reference` reads
`NAME[option=value]`, `definition` puts a file and its options together; `filters`,
`actions` and `jails` say what it means to dockerjail.

What a file means is what it means to fail2ban 1.0.2, established by running both on the
same files (tests/conformance/test_fail2ban_config.py). Where fail2ban dies, skips without
a word or looks for a file with a blank in its name, a message says so, with file, line,
section and what to write, and everything else goes on. Nothing here compiles a regex for
use, resolves a host name, runs a command or looks at a log file.
"""
