"""Files from a directory.

``resolve`` opens the file of a path, and nothing outside of the directory; ``conditional`` says what the
client's validators mean for it (304, 412, If-Range); ``ranges`` which parts it wants; ``mime`` what it is;
``handler`` answers.
"""
