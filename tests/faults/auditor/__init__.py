"""An auditor who imports none of our code: what he knows is the documents.

He reads a folder and says what is wrong in it:

``book.jsonl``
    What callers wrote: ``{"sent": request, "tenant", "key", "jobs": [{"custom_id", "question",
    "expect": {"states", "codes"}}]}`` before a request, ``{"accepted": request, "tenant", "key",
    "ids"}`` after each answer, ``{"may": job, "states", "codes"}`` when they changed their mind.
``tables/NAME.jsonl``
    The rows of a table. Unknown tables are left alone, missing ones are empty.
``objects/KEY``
    The packs, and what versions are made of. ``queues.json``: what the broker still holds.
    ``webhooks.jsonl``: what a receiver got, if there was one.
``files/in``, ``files/out``
    What callers had scored in bulk, and what was written for them. Of a bulk job the book says
    ``"bulk": {"files": [names in the order of their addresses], "output": name or null, "wrong":
    {row id: code}}``. Of a training it says ``"training": {"model": name, "steps", "epochs",
    "twins": word}``: trainings with the same word measure the same.

He answers in JSON: ``accepted``, ``lost``, ``doubled``, ``crossed``, ``stuck`` and ``findings``, a
sentence for each thing that is not as it should be.
"""
