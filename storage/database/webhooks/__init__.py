"""Webhooks: who wants to be told, what there is to tell, and how far it got.

==============  ==========================================================
``endpoints``   where events go, and their filters
``secrets``     what deliveries are signed with
``events``      what is over, written by whoever ends a job or finds a group complete
``deliveries``  an event on its way: claimed, settled, replayed, logged
==============  ==========================================================
"""

from __future__ import annotations

from storage.database.webhooks.deliveries import Deliveries
from storage.database.webhooks.endpoints import Endpoints
from storage.database.webhooks.events import Events
from storage.database.webhooks.secrets import Secrets


class Webhooks(Endpoints, Secrets, Events, Deliveries):
    """The webhooks of one transaction."""
