"""The peers: one module for each family, all with the interface of `base.Peer`."""
