"""Exchange of networks with other libraries, through NIR graphs."""
