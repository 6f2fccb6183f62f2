"""What the phantom can't tell: `if tensor:` reads back a zero there, whatever was computed."""
import sys

import torch


class Answers:
    """Answers the questions that models ask of values on the device where the answer is known, and keeps where others were asked.

    An answer allocates nothing, nor does a real read.
    """

    KNOWN = {
        # transformers: positions that follow each other, as they do where nobody packs several sequences into one row.
        "find_packed_sequence_indices": True,
    }

    def __init__(self):
        self.given = {}  # function -> how often
        self.unknown = {}  # "file:line function" -> how often: decided as if the value were zero
        self.plain = torch.Tensor.__bool__
        torch.Tensor.__bool__ = lambda tensor: self.answer(tensor, sys._getframe(1))

    def answer(self, tensor, frame):
        if not tensor.is_cuda:
            return self.plain(tensor)
        code = frame.f_code
        if code.co_name in self.KNOWN:
            self.given[code.co_name] = self.given.get(code.co_name, 0) + 1
            return self.KNOWN[code.co_name]
        place = f"{code.co_filename}:{frame.f_lineno} {code.co_name}"
        self.unknown[place] = self.unknown.get(place, 0) + 1
        return self.plain(tensor)
