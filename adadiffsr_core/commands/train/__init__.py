"""`adadiffsr train`: the networks of the embedded model, from photographs; a stopped run goes on where it was."""

from typing import Any

from . import autoencoder, decoder, ldm, mmle, pfj


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the parser of `adadiffsr`."""
    parser = subparsers.add_parser("train", help="train the networks of the embedded model", description=__doc__)
    networks = parser.add_subparsers(required=True, metavar="NETWORK")
    for network in (autoencoder, ldm, mmle, pfj, decoder):
        network.add_parser(networks)
