"""Networks in integers as C99: static memory, no division, for microcontrollers."""
