"""A SCSI disk: commands in, data and sense out. Knows nothing of VMBus.

command     what a command descriptor block asks for
inquiry     what the disk says of itself
backing     the blocks: a private copy of an image
disk        carries commands out
"""
