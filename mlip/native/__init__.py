"""Native kernel of the spherical network on the CPU: C++ that is compiled on the machine where it runs."""
