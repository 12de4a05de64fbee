"""One module per policy family: its network, checkpoint layout and manifest facts, behind `adapter.Policy`."""
