"""What servers have to do together, one file for each subject. Importing declares the scenarios."""

from scenarios import devices, directory, ephemeral, history, joining, media, membership, messages  # noqa: F401
from scenarios import moderation, outage, partition, three  # noqa: F401
