"""Every format that leaves a bin. The only definition: the gateway and the tools import it."""
