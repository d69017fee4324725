"""Export of networks with `torch.onnx`."""
