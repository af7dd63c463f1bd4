"""What can be called: one function a command, each a public name at the root of nas.

`resolve` says what names and words stand for, `loading` reads runs back, and each other module holds the functions of
one kind. It may import everything but `cli`. Only these two import `search_spaces`. Start with `search`.
"""
