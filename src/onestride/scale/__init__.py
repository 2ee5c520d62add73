"""Work on several machines: units of work with a file each, carried out by the processes of a Ray cluster."""
