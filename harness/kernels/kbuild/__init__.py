"""Building with the kernel's own makefiles: configurations, kernels, and modules out of tree."""
