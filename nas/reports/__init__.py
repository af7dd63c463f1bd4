"""What runs came to, for people: tables, pages, plots, and progress on the screen.

It imports everything down to `search_strategy`; `tables` and `live_progress` are the only modules with rich, `page` and
`plots` with plotly. Start reading with `comparison`.
"""
