"""A SCSI disk: commands in, data and sense out. Knows nothing of VMBus.

command     what a command descriptor block asks for
inquiry     what the disk says of itself
backing     the blocks: a private copy of an image
layer       the blocks of a large image, and what is written above it
disk        carries commands out
"""
