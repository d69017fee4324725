"""Integer C++: the fixed-point model of one step and of whole sequences."""
