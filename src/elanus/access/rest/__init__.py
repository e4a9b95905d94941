"""The RESTful API (v2): the same handlers as gRPC, spoken to in JSON.

A route turns its body into the request messages of one or more RPCs, has the dispatcher answer
them, and turns the responses into JSON. What is valid is for those RPCs to say; only what JSON and
HTTP bring with them is judged here.
"""
