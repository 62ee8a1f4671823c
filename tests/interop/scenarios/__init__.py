"""What servers have to do together, one file for each subject. Importing declares the scenarios."""

from scenarios import crowd, devices, directory, ephemeral, history, joining, media, membership  # noqa: F401
from scenarios import messages, moderation, outage, partition, three  # noqa: F401
