"""Jobs on a Ray cluster.

    driver (the loop)  -- orders -->  board  -- tasks -->  workers
                       <-- news ---          <-- reports --

The board is a detached actor, one per archive. It owns the tasks, so that they outlive a killed driver. A worker needs
this package and the backend's packages. It never sees the archive, because an order holds everything that a run needs.
"""
