"""What a guest and its host say to each other on VMBus, here and on a real host, held side by side.

conversation  channel messages in a common form, recorded from a guest of ours
trace         the same from a trace of Linux's own events, as a guest on a real host records it
compare       what is different, driver by driver
"""

from harness.hyperv.calibration.compare import Difference, differences
from harness.hyperv.calibration.conversation import Conversation, Said
from harness.hyperv.calibration.trace import read_trace

__all__ = ["Conversation", "Difference", "Said", "differences", "read_trace"]
