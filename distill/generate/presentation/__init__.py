"""Results for people: tables, JSON, notebook players, and the audition page."""
