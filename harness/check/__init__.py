"""The cross-check: what a kernel's page tables say, by the model, by another walker, and by rules.

Knows the model (`harness.vmsa`) and verdicts, and nothing of where registers and memory come from.
"""
