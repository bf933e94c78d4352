/* A buffered connection with a deadline: see io.c. */
#ifndef IO_H
#define IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Input that may wait unread; what a client pipelines over the login must fit (kpopd.c hands it on). */
#define IO_IN 1024
/* An answer of up to 64 KiB leaves in one write; the rest is for what is written meanwhile. */
#define IO_OUT 131072

enum io_error { IO_OK, IO_CLOSED, IO_TIMEOUT, IO_STALLED, IO_YIELDED, IO_FAILED };

struct io {
	int fd;
	int64_t deadline; /* absolute, ms of CLOCK_MONOTONIC; 0: idle counts for each line */
	int64_t idle;     /* ms for one line of input */
	int64_t stall;    /* ms for one buffer of output */
	int wish;         /* readable when somebody wants this connection's end; -1: nobody can */
	int64_t patience; /* ms without an byte after which a wish is granted */
	bool frugal;      /* io_exact leaves on the socket what it was not asked for */
	enum io_error error; /* sticky: once set, nothing more is read, handed out or written */
	uint64_t line_size; /* bytes of the line that io_line read last, with its end */
	size_t in_at, in_end, out_end;
	char in[IO_IN];
	char out[IO_OUT];
};

/* io_line's other answers. */
#define IO_LINE_ERROR (-1) /* io->error says which */
#define IO_LINE_LONG (-2)  /* too long; the whole line has been read, and line has its beginning */

/* Begins on the connected socket fd, all of it to end at deadline (absolute ms). */
void io_init(struct io *io, int fd, int64_t deadline);

/* From now on each line of input may take idle ms and each buffer of output stall ms. */
void io_limits(struct io *io, int64_t idle, int64_t stall);

/* From now on, whenever wish has something to read and the peer has been silent for patience ms, the connection ends. */
void io_yield(struct io *io, int wish, int64_t patience);

/* Goes on with another socket. What was read from the old one and not used is forgotten. */
void io_switch(struct io *io, int fd);

/* Puts n <= IO_IN bytes, read earlier by another process, before what the socket will bring. */
void io_prime(struct io *io, const void *data, size_t n);

/* The bytes read but not used yet: their place, valid until the next read, and their number. */
size_t io_unread(const struct io *io, const char **data);

/*
 * Reads a line that ends in LF or CRLF into line[size], without its end and
 * with a NUL behind it. Returns its length (a NUL in it counts like any byte)
 * or IO_LINE_LONG when line and end need more than size bytes, or
 * IO_LINE_ERROR. Sends waiting output first unless a whole line is there.
 */
int io_line(struct io *io, char *line, size_t size);

/* Reads exactly n bytes. Returns 0, or -1 with io->error set. */
int io_exact(struct io *io, void *data, size_t n);

/* Appends to the output, sending whenever the buffer is full. Errors show in io->error. */
void io_write(struct io *io, const void *data, size_t n);

/* As io_write, with a format. The result must be shorter than 512 bytes. */
void io_printf(struct io *io, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A place for at least need bytes of output (need <= IO_OUT), to be followed by io_put(n). */
char *io_room(struct io *io, size_t need, size_t *room);
void io_put(struct io *io, size_t n);

/* Sends what is waiting. Returns 0, or -1 with io->error set. */
int io_flush(struct io *io);

/*
 * Sends what is waiting, then waits until the peer's kernel has acknowledged
 * all that was sent; on a socket pair, until its other end has read it. Each
 * time fewer bytes are outstanding the stall limit starts anew. A peer that has
 * only ended its own side is alive. Returns 0, also if the kernel cannot tell,
 * or -1 with io->error set.
 */
int io_await_acknowledged(struct io *io);

/* Sends n bytes to a client that was too slow and ends our side. The error stays. After any other error nothing is sent. */
void io_last_words(struct io *io, const void *data, size_t n);

/*
 * Sends what is waiting, ends our side and drops what the peer still sends,
 * for at most two seconds: closing a socket with unread input would reset the
 * connection and could destroy the answer on its way.
 */
void io_linger(struct io *io);

#endif
