"""The report of a sweep, in which one scenario is run at several loads.

`points.py` reduces each run to one point; `capacity.py` makes sweep.json from the points, with `scaling.py` and
`saturation.py`; `fields.py` describes each field of it; `page.py` makes the page.
"""
