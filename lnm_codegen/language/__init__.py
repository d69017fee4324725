"""Language of neuron definitions: symbols, functions, surrogates, phases."""
