"""What the nodes do, apart from how a version of the host wants them described."""
