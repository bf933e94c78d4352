// Fetches mail with Jakarta Mail through kpopc, because Jakarta Mail's POP3 has no GSSAPI: Fetch HOST PORT KPOPC-OPTION… Prints all messages and removes them.
import jakarta.mail.*;
import java.io.*;
import java.net.*;
import java.util.*;
import javax.net.SocketFactory;

public class Fetch {
	static List<String> command = new ArrayList<>();

	/* A connection that starts its own kpopc. So it opens no port that other users could use. */
	static class Kpopc extends Socket {
		Process kpopc;

		@Override public void connect(SocketAddress where, int timeout) throws IOException {
			InetSocketAddress to = (InetSocketAddress)where;
			List<String> all = new ArrayList<>(command);

			all.add(to.getHostString());
			all.add(String.valueOf(to.getPort()));
			kpopc = new ProcessBuilder(all).redirectError(ProcessBuilder.Redirect.INHERIT).start();
		}
		@Override public void connect(SocketAddress where) throws IOException { connect(where, 0); }
		@Override public InputStream getInputStream() { return kpopc.getInputStream(); }
		@Override public OutputStream getOutputStream() { return kpopc.getOutputStream(); }
		@Override public synchronized void close() { if (kpopc != null) kpopc.destroy(); }
		@Override public void setSoTimeout(int milliseconds) { }
	}

	/* The session's properties contain an object of this class. */
	public static class Factory extends SocketFactory {
		@Override public Socket createSocket() { return new Kpopc(); }
		@Override public Socket createSocket(String host, int port) throws IOException { return to(new InetSocketAddress(host, port)); }
		@Override public Socket createSocket(InetAddress host, int port) throws IOException { return to(new InetSocketAddress(host, port)); }
		@Override public Socket createSocket(String host, int port, InetAddress from, int own) throws IOException { return createSocket(host, port); }
		@Override public Socket createSocket(InetAddress host, int port, InetAddress from, int own) throws IOException { return createSocket(host, port); }
		private Socket to(SocketAddress where) throws IOException { Socket s = new Kpopc(); s.connect(where); return s; }
	}

	public static void main(String[] args) throws Exception {
		Properties settings = new Properties();

		command.add(System.getenv("KPOPC"));
		command.addAll(Arrays.asList(args).subList(2, args.length));
		settings.put("mail.pop3.socketFactory", new Factory());
		settings.put("mail.pop3.socketFactory.fallback", "false");
		try (Store store = Session.getInstance(settings).getStore("pop3")) {
			store.connect(args[0], Integer.parseInt(args[1]), "alice", "x");
			Folder inbox = store.getFolder("INBOX");
			inbox.open(Folder.READ_WRITE);
			for (Message message : inbox.getMessages()) {
				message.writeTo(System.out);
				message.setFlag(Flags.Flag.DELETED, true);
			}
			inbox.close(true);
		}
		System.out.flush();
	}
}
