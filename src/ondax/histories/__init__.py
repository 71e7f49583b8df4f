"""What a run keeps of its wavefields for the runs that linearise around it."""
