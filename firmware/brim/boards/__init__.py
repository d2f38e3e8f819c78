"""The hardware: one file of constants a board, and the one file that knows the ESP32."""
