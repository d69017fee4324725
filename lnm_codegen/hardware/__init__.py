"""One circuit: word lengths, verification, synthesis. Needs no PyTorch."""
