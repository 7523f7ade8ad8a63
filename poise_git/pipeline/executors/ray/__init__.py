"""Jobs on a Ray cluster.

    driver (the loop)  -- orders -->  board  -- tasks -->  workers
                       <-- news ---          <-- reports --

The board is a detached actor, one for an archive: it owns the tasks, so that they outlive a driver that is killed.
A worker needs this package and the backend's, and never sees the archive: an order has all that a run depends on.
"""
