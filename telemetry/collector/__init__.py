"""Stream one: readings of devices, polled on time and written by one writer."""
