"""Weeding: which options to turn off so that a kernel tree, parts of which do not build, builds.

failures      what a log of make says: which object failed, and why
ld            what the linker says
makefile      one kbuild makefile, read
makefiles     from an object to the options that build it
expression    Kconfig's expressions
kconfig_file  one Kconfig file, read into entries
holders       what holds an option on, and what else to turn off for it
workbench     one configuration after another in one output directory
verdicts      what a weeding found, as values
blame         from failures to options that may be turned off
proof         that each option turned off has to be
weeding       the rounds
publish       the weeded kernel in the cache
"""
