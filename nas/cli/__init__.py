"""The command line: argv -> the Python function of the same name -> tables or JSON.

The only package with typer. It may import everything. Start with `app`, which lists the commands.
"""
