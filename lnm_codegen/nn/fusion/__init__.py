"""Search for batch normalisations whose neurons can compute them."""
