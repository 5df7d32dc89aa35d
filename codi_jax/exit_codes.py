"""The exit codes of the program; docs/pods.md says what the launch files do with each."""

EXIT_BELOW_FLOORS = 1  # of an evaluation; also that of a traceback
EXIT_PROBLEMS = 1  # of `doctor`: something is wrong with the installation or the machine
EXIT_BAD_INPUT = 2  # the same command cannot succeed
EXIT_UNAVAILABLE = 69  # EX_UNAVAILABLE: a host, the coordinator or a store; the same command may succeed later
EXIT_PREEMPTED = 75  # EX_TEMPFAIL: everything is saved, the same command resumes
EXIT_INTERRUPTED = 130  # Ctrl-C
