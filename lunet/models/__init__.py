"""Networks, and the rules for a network of your own (``network: nets/my_net.py:MyNet``).

1. It is a class of ``torch.nn.Module`` that takes ``in_channels`` and ``out_channels``; a
   configuration gives further arguments by name. Values are checked where they are annotated.
2. A class for both 2D and 3D takes ``ndim``; one without it must fit the axes of the data.
3. ``forward`` maps (batch, in_channels, *spatial) to one tensor of logits (batch, out_channels,
   *spatial). Loss and prediction apply the sigmoid or softmax.
4. ``forward`` only gets axes that are multiples of ``multiple``, an attribute of class or object: a
   whole number, or one per axis. Without it, a trial finds the smallest power of two that works.
   Images are padded and logits are cropped outside of the class.
5. It may import installed packages and the Python files beside it, by their names. These files are
   a part of what its trainings depend on; other files that it reads are not.
"""
