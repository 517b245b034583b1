"""What a kernel can be built from: a directory, a tarball, a commit; patches, applied to a copy of it."""
